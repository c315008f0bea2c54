# syntax=docker/dockerfile:1
# docker build -t bookstore .
# docker run -p 5000:5000 -v bookstore:/data --stop-timeout 120 --ulimit nofile=65536 bookstore
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package bookstore --bin bookstore \
    && install -D target/release/bookstore /out/bookstore \
    && mkdir /out/data

# No shell and no package manager; its user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/bookstore /usr/local/bin/bookstore
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /data
ENV BOOKSTORE_LISTEN=0.0.0.0:5000 \
    BOOKSTORE_DATA_DIR=/data \
    BOOKSTORE_LOG_FORMAT=json
USER 65532:65532
VOLUME /data
EXPOSE 5000
# Drains, takes a last snapshot and ends.
STOPSIGNAL SIGTERM
# Ready is what counts: recovery done, journal sound, not draining. With another port, or with TLS, it needs --url and --tls-ca: give a
# check of your own.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/bookstore", "health"]
ENTRYPOINT ["/usr/local/bin/bookstore"]
CMD ["serve"]
