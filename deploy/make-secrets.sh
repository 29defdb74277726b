#!/bin/sh
# Write random passwords for docker-compose.yml to ./secrets; what is there already stays.
set -eu

cd "$(dirname "$0")/.."
mkdir -p secrets
chmod 0700 secrets
umask 0022 # containers read the files as users of their own; the directory keeps others out

random() { LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 43; }
write() { [ -e "secrets/$1" ] || printf '%s' "$2" >"secrets/$1"; }

write secret_key "$(random)$(random)"
write postgresql_password "$(random)"
write redis_password "$(random)"
write rabbitmq_password "$(random)"
write database_url "postgres://holdfast:$(cat secrets/postgresql_password)@postgresql:5432/holdfast"
write redis_url "redis://:$(cat secrets/redis_password)@redis:6379/0"
write rabbitmq_url "amqp://holdfast:$(cat secrets/rabbitmq_password)@rabbitmq:5672//"
write rabbitmq.conf "default_user = holdfast
default_pass = $(cat secrets/rabbitmq_password)
"
