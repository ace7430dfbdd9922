# The service, its commands and the MLflow server in one image. What is installed is what the two lock
# files say, by hash (`tox -e lock`); docs/deployment.md tells how to run it.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements.lock deploy/build.lock ./
# Wheels only: a slim image compiles nothing, and no set-up script of others runs here.
RUN python -m venv /opt/monitorkit \
 && python -m pip --python /opt/monitorkit install --only-binary :all: --require-hashes -r requirements.lock
RUN python -m venv tools \
 && python -m pip --python tools install --only-binary :all: --require-hashes -r build.lock
COPY pyproject.toml README.md LICENSE ./
COPY monitorkit monitorkit
COPY plugins plugins
RUN python -m pip --python tools wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
 && python -m pip --python /opt/monitorkit install --no-index --no-deps dist/*.whl \
 && python -m pip --python /opt/monitorkit check

FROM python:${PYTHON}-slim
RUN groupadd --gid 10001 monitorkit \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin monitorkit \
 && install -d -o 10001 -g 10001 /srv/monitorkit/monitoring /srv/mlflow \
 && install -d /srv/monitorkit/data
COPY --from=build /opt/monitorkit /opt/monitorkit
COPY deploy/probe.py /opt/monitorkit/probe.py
COPY config /srv/monitorkit/config
# Nothing outside the volumes and /tmp is written, so that the root may be read-only.
ENV PATH=/opt/monitorkit/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    MONITORKIT_LOGGING__FORMAT=json \
    MONITORKIT_SERVING__HOST=0.0.0.0
WORKDIR /srv/monitorkit
USER 10001:10001
EXPOSE 8000
# A first start trains a model before it answers.
HEALTHCHECK --interval=10s --timeout=6s --start-period=300s --retries=3 \
    CMD ["python", "-I", "/opt/monitorkit/probe.py", "http://127.0.0.1:8000/ready"]
ENTRYPOINT ["monitorkit"]
CMD ["run"]
