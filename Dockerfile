# syntax=docker/dockerfile:1
# Build: docker build -t tidegate .
# Run:   docker run --rm -p 3000:3000 -v tidegate:/var/lib/tidegate \
#          -e TIDEGATE_AUTH__PUBLISHER_KEY="$(openssl rand -base64 48)" \
#          -e TIDEGATE_AUTH__SUBSCRIBER_KEY="$(openssl rand -base64 48)" tidegate
# Try:   docker run --rm -p 127.0.0.1:3000:3000 -v tidegate:/var/lib/tidegate -e TIDEGATE_SERVER__OPEN_TO_EVERYBODY=true tidegate

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY benches benches
COPY src src
COPY static static
COPY templates templates
COPY examples examples
RUN cargo build --release --locked --bin tidegate

FROM debian:bookworm-slim
# Webhooks to https addresses need the certificate authorities.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
RUN useradd --system --no-create-home tidegate && install -d -o tidegate -g tidegate -m 700 /var/lib/tidegate
COPY --from=build /src/target/release/tidegate /usr/local/bin/tidegate
USER tidegate
# A container is reached at its own address, never at loopback. So without keys the gateway refuses
# to start, unless TIDEGATE_SERVER__OPEN_TO_EVERYBODY=true lets every peer publish and subscribe. In
# that case publish the port on 127.0.0.1 only, as above, or use a closed network.
ENV TIDEGATE_SERVER__LISTEN=0.0.0.0:3000 \
    TIDEGATE_HISTORY__PATH=/var/lib/tidegate
# Use a named volume, or events and jobs are lost with the container.
VOLUME /var/lib/tidegate
EXPOSE 3000
ENTRYPOINT ["tidegate"]
