# Runtime image: the command line and its native core, without a compiler.
# docker build -t ig-py . && docker run --rm --privileged --pid=host -v /:/host:ro \
#   -v /run:/run -v /sys/kernel:/sys/kernel -v /var/lib/ig:/var/lib/ig ig-py run REF --host
FROM debian:bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      build-essential ca-certificates cargo-web libelf-dev pkg-config \
      python3 python3-venv rustc-web zlib1g-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock ./
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir -c requirements.lock maturin
COPY pyproject.toml README.md LICENSE ./
COPY LICENSES LICENSES
COPY build build
COPY core core
COPY ig_py ig_py
RUN /opt/build/bin/maturin build --release --locked --compatibility linux --auditwheel skip --out /dist \
 && python3 -m venv /opt/ig-py \
 && /opt/ig-py/bin/pip install --no-cache-dir -c requirements.lock /dist/*.whl

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libelf1 python3 zlib1g \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/ig-py /opt/ig-py
ENV PATH=/opt/ig-py/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["ig-py"]
