# One file, three images: `shim` (the endpoint, no torch), `worker` (one GPU), `pod` (shim and a worker per GPU, for RunPod).
#
#   docker build --target worker -t easeld-worker .
#
# BASE         any Debian or Ubuntu with a Python that constraints.txt was made for (3.11)
# PIP_OPTIONS  for pip: "--extra-index-url https://download.pytorch.org/whl/cpu" takes a build of PyTorch for the CPU
# MODELS       names of the catalogue whose weights become part of the image; none by default: they are fetched into the
#              volume /var/cache/easeld at the first start
#
# A change of code rebuilds the last layer only: everything that is installed comes before it and depends on the
# requirements alone.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS system
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/easeld easeld \
    && install -d -o easeld -g easeld -m 750 /var/lib/easeld /var/cache/easeld /var/cache/easeld/huggingface
ENV PATH=/opt/easeld/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1 \
    EASELD_DATA=/var/lib/easeld EASELD_CACHE=/var/cache/easeld XDG_CACHE_HOME=/var/cache/easeld

# What is to be installed, without the rest of setup.cfg: a new version number alone installs nothing anew.
FROM system AS requirements
COPY setup.cfg /source/
RUN python3 -c "import configparser; \
    setup = configparser.ConfigParser(); setup.read('/source/setup.cfg'); \
    open('/requirements-shim', 'w').write(setup['options']['install_requires']); \
    open('/requirements-worker', 'w').write(setup['options.extras_require']['worker'])"

FROM system AS shim-dependencies
ARG PIP_OPTIONS=
ARG PIP_CERT
COPY constraints.txt /
COPY --from=requirements /requirements-shim /
RUN python3 -m venv /opt/easeld \
    && pip install --no-cache-dir ${PIP_OPTIONS} --constraint /constraints.txt --requirement /requirements-shim

FROM shim-dependencies AS worker-dependencies
ARG PIP_OPTIONS=
ARG PIP_CERT
COPY --from=requirements /requirements-worker /
RUN pip install --no-cache-dir ${PIP_OPTIONS} --constraint /constraints.txt --requirement /requirements-worker

FROM shim-dependencies AS wheel
ARG PIP_OPTIONS=
ARG PIP_CERT
WORKDIR /source
COPY setup.cfg pyproject.toml README.md ./
COPY models models
COPY daemon daemon
RUN pip wheel --no-cache-dir ${PIP_OPTIONS} --no-deps --wheel-dir /wheel .

# --- the endpoint --------------------------------------------------------------------------------------------------
FROM system AS shim
COPY --from=shim-dependencies /opt/easeld /opt/easeld
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
USER easeld
WORKDIR /var/lib/easeld
# Reachable from outside the container, so a key is required: EASELD_SHIM_KEYS.
ENV EASELD_SHIM_HOST=0.0.0.0 EASELD_SHIM_PORT=8000
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"EASELD_SHIM_PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["tini", "--", "easeld"]
CMD ["shim"]

# --- one GPU -------------------------------------------------------------------------------------------------------
FROM system AS worker
COPY --from=worker-dependencies /opt/easeld /opt/easeld
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
ARG MODELS=
# With weights in the image they are the only ones: nothing is fetched any more.
ENV BAKED=${MODELS:+/opt/models}
ENV HF_HOME=${BAKED:-/var/cache/easeld/huggingface} HF_HUB_OFFLINE=${MODELS:+1} HF_HUB_DISABLE_TELEMETRY=1
RUN if [ -n "${MODELS}" ]; then HF_HUB_OFFLINE=0 EASELD_MODELS="${MODELS}" easeld models pull; fi
USER easeld
WORKDIR /var/lib/easeld
ENV EASELD_HTTP_HOST=0.0.0.0 EASELD_HTTP_PORT=9100 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility CUDA_CACHE_PATH=/var/cache/easeld/cuda
EXPOSE 9100
VOLUME ["/var/cache/easeld"]
STOPSIGNAL SIGTERM
# Whether every thread moves; whether it claims is /readyz, which a worker that waits for its GPU may well deny.
HEALTHCHECK --interval=30s --timeout=5s --start-period=300s \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"EASELD_HTTP_PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["tini", "--", "easeld"]
CMD ["worker"]

# --- shim and workers in one container, for machines that give you no more than one ----------------------------------
FROM worker AS pod
USER root
RUN apt-get update && apt-get install -y --no-install-recommends supervisor && rm -rf /var/lib/apt/lists/*
COPY runpod/start runpod/supervisord.conf /opt/pod/
ENV EASELD_SHIM_HOST=0.0.0.0 EASELD_SHIM_PORT=8000 EASELD_HTTP_HOST=127.0.0.1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"EASELD_SHIM_PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["tini", "--", "/opt/pod/start"]
CMD []
