# A server with the demo model. CPU by default; for CUDA:  docker build --build-arg EXTRA=gpu .
# Every step is a Makefile target, so that the image is built as everything else is.
# A tag is moved to newer images; a digest is one image for ever. To build from one that you have looked up:
#   docker buildx imagetools inspect python:3.11-slim-bookworm
#   docker build --build-arg BASE=python:3.11-slim-bookworm@sha256:DIGEST .
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ARG EXTRA=cpu
ENV EXTRA=${EXTRA} PYTHONUNBUFFERED=1

# AOTInductor needs g++. Java comes from the lock file.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home shipway \
    && install --directory --owner shipway /shipway

USER shipway
WORKDIR /shipway
COPY --chown=shipway . .
RUN make env
RUN make model

# The server listens on loopback, so use the host's network: docker run --network host IMAGE
STOPSIGNAL SIGTERM
CMD ["make", "up"]
