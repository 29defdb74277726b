#!/bin/sh
# `make run`: the server on this machine, with the demo beside it unless DEMO=0. With DEMO=calm
# nothing in it fails by itself, only on purpose.
set -eu

python=.venv/bin/python
mkdir -p -m 700 "${HOLDFAST_VAR:-var}"
echo "Preparing the database in ${HOLDFAST_VAR:-var}/ ..."
var=$(cd "${HOLDFAST_VAR:-var}" && pwd)
if [ "${DEMO:-1}" = 0 ]; then
    $python manage.py migrate --verbosity 0
    $python manage.py firstrun --environment production
else
    export HOLDFAST_DEMO=1 DATABASE_URL="sqlite:///$var/demo.sqlite3"
    $python manage.py preparedemo
    case $HOST in 0.0.0.0 | ::) near=127.0.0.1 ;; *) near=$HOST ;; esac
    # This shell becomes the server, and the demo ends with it.
    [ "${DEMO:-1}" = calm ] && calm=--calm || calm=
    $python -m demo run $calm --url "http://$near:$PORT" &
fi
exec $python manage.py serve --host "$HOST" --port "$PORT"
