# ig-py in an image: as a command, or as a tracer that stays (docs/in-a-container.md).
#
#   docker build -t ig-py .                            from the sources
#   docker build -t ig-py --build-arg WHEEL=ready .    with the wheel in dist/ (make setup)
#
# Where TLS is intercepted, dist/ca.crt holds the certificates to trust while building.
# Nothing here needs BuildKit.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
ARG WHEEL=build
WORKDIR /src
COPY LICENSE dist* /dist/
RUN if [ "$WHEEL" = ready ]; then \
      ls /dist/*.whl && exit 0; \
      echo "WHEEL=ready: there is no wheel in dist/: run make setup, or leave WHEEL out" >&2; \
      exit 1; \
    fi \
 && rm -f /dist/*.whl \
 && apt-get update \
 && apt-get install -y --no-install-recommends \
      build-essential ca-certificates cargo-web clang libelf-dev llvm pkg-config \
      python3 python3-venv rustc-web zlib1g-dev
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY LICENSES LICENSES
COPY build build
COPY core core
COPY ig_py ig_py
RUN if [ "$WHEEL" = ready ]; then exit 0; fi \
 && if [ -s /dist/ca.crt ]; then export PIP_CERT=/dist/ca.crt CARGO_HTTP_CAINFO=/dist/ca.crt; fi \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir -c requirements.lock maturin \
 && /opt/build/bin/maturin build --release --locked --compatibility linux --auditwheel skip \
      --out /dist

FROM ${BASE} AS installed
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv
COPY requirements.lock /
COPY --from=build /dist /dist
RUN if [ -s /dist/ca.crt ]; then export PIP_CERT=/dist/ca.crt; fi \
 && python3 -m venv /opt/ig-py \
 && /opt/ig-py/bin/pip install --no-cache-dir -c /requirements.lock /dist/*.whl \
 && /opt/ig-py/bin/pip uninstall -y pip setuptools

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libelf1 libpcap0.8 python3 zlib1g \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=installed /opt/ig-py /opt/ig-py
ENV PATH=/opt/ig-py/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOST_ROOT=/host
ENTRYPOINT ["ig-py"]
