# Syncline in a container: `docker build -t syncline .`
FROM rust:1-slim AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
COPY data data
RUN cargo build --release --locked --bin syncline

FROM debian:stable-slim
# The certificates that a PostgreSQL elsewhere is checked against.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/syncline syncline
COPY --from=build /build/target/release/syncline /usr/local/bin/syncline
USER syncline
ENV SYNCLINE__NODE__DATA_DIR=/var/lib/syncline
VOLUME /var/lib/syncline
EXPOSE 8080
# 1 is unhealthy; a health check may say nothing else. compose.yaml asks for the role, too.
HEALTHCHECK --interval=10s --start-period=1m CMD syncline health http://127.0.0.1:8080 || exit 1
ENTRYPOINT ["syncline"]
CMD ["serve"]
