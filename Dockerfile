# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml build.rs ./
COPY layout layout
COPY src src
COPY benches benches
COPY tests/main.rs tests/main.rs
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin vestibule && cp target/release/vestibule /vestibule

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 vestibule
COPY --from=build /vestibule /usr/local/bin/vestibule
USER vestibule
# The public listener and the admin listener of the default configuration.
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s CMD ["vestibule", "healthcheck"]
ENTRYPOINT ["vestibule"]
CMD ["serve", "--config", "/etc/vestibule/vestibule.toml"]
