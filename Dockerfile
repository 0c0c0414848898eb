# What `make demo` needs, for the CPU. README.md says how to use it.
FROM python:3.11-slim-bookworm

# g++: pyworld, which espnet needs, has no wheel for Python 3.11.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /espnet_kd
COPY . .
# --build-arg PIP_ARGS="--no-cache-dir --extra-index-url <index>": torch's builds for CPUs, 4 GB less.
ARG PIP_ARGS="--no-cache-dir"
RUN make install PIP_ARGS="${PIP_ARGS}"

CMD ["make", "demo"]
