# keepip in a container: `docker build -t keepip:0.1.0 .`; `make image` builds this file and runs what comes out.
# Pinned by tag: who has a registry at hand may add the digest.
FROM docker.io/library/debian:bookworm-20250929-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY requirements-build.lock requirements.lock ./
# ovs comes as source only, so what builds it is installed first; the lock files carry every hash.
RUN python3 -m venv /opt/keepip \
 && /opt/keepip/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements-build.lock \
 && /opt/keepip/bin/pip install --no-cache-dir --no-deps --require-hashes --no-build-isolation -r requirements.lock
COPY pyproject.toml README.md ./
COPY controller controller
RUN /opt/keepip/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/keepip/bin/pip uninstall --yes setuptools pip \
 && /opt/keepip/bin/python -m compileall -q /opt/keepip/lib

# No compiler and no installer of Python's: only Python and the installed tree.
FROM docker.io/library/debian:bookworm-20250929-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY --from=build /opt/keepip /opt/keepip
ENV PATH=/opt/keepip/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65534:65534
EXPOSE 8080
ENTRYPOINT ["keepip"]
