# keepip in a container: `docker build -t keepip:0.1.0 .`
FROM python:3.13.9-slim-bookworm AS build
WORKDIR /source
COPY requirements-build.lock requirements.lock ./
# ovs comes as source only, so what builds it is installed first; the lock files carry every hash.
RUN python -m venv /opt/keepip \
 && /opt/keepip/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements-build.lock \
 && /opt/keepip/bin/pip install --no-cache-dir --no-deps --require-hashes --no-build-isolation -r requirements.lock
COPY pyproject.toml README.md ./
COPY controller controller
RUN /opt/keepip/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/keepip/bin/pip uninstall --yes setuptools pip \
 && /opt/keepip/bin/python -m compileall -q /opt/keepip/lib

# No compiler, no installer, no shell needed: only Python and the installed tree.
FROM python:3.13.9-slim-bookworm
COPY --from=build /opt/keepip /opt/keepip
ENV PATH=/opt/keepip/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65534:65534
EXPOSE 8080
ENTRYPOINT ["keepip"]
