# The server: web process by default; the worker and beat run the same image.
FROM python:3.12-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /app/.venv
COPY requirements/base.txt requirements/base.txt
RUN .venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements/base.txt
COPY sdk sdk
RUN .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation ./sdk

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home holdfast \
    && install --directory --owner holdfast --mode 0700 /var/lib/holdfast
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY manage.py pyproject.toml ./
COPY controlplane controlplane
COPY apps apps
COPY templates templates
COPY static static
RUN .venv/bin/python -m compileall -q apps controlplane
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOLDFAST_VAR=/var/lib/holdfast \
    LOG_FORMAT=json
USER holdfast
VOLUME /var/lib/holdfast
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["python", "manage.py", "serve", "--host", "0.0.0.0", "--port", "8000"]
