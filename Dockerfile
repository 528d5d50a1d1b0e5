# Builds the plugins and the services of the demo, for docker-compose.yml.
#
#   gateway   a stock Envoy with the plugins, and envoy/tollgate.yaml; also those with shared quotas
#   demo      the services behind it, and the client that walks through its outcomes
#
# It needs no BuildKit.

ARG RUST=rust:1.95.0-bookworm
ARG ENVOY=envoyproxy/envoy:v1.40.0
ARG DEBIAN=debian:12.11-slim

# The manifests, and sources that are there but empty, so that dependencies are fetched anew only when
# a manifest changes, or a file comes or goes.
FROM ${RUST} AS manifests
WORKDIR /src
COPY . .
RUN mkdir /manifests \
    && find . \( -name Cargo.toml -o -name '*.rs' \) -exec cp --parents -t /manifests {} + \
    && find /manifests -name '*.rs' -exec truncate --size 0 {} + \
    && cp Cargo.lock rust-toolchain.toml /manifests

FROM ${RUST} AS build
WORKDIR /src
COPY --from=manifests /manifests .
RUN cargo fetch --locked
COPY . .
# In one step, and without what is left over from building, to keep the layer small.
RUN export CARGO_TARGET_DIR=/target \
    && make dist PLUGINS="tollgate usage-plan" \
    && cargo build --locked -p tollgate-demo \
    && mkdir /out && mv dist /target/debug/tollgate-demo /out \
    && rm -rf /target

FROM ${ENVOY} AS gateway
COPY --from=build /out/dist/tollgate.wasm /out/dist/usage-plan.wasm /etc/envoy/filters/
COPY envoy/tollgate.yaml /etc/envoy/envoy.yaml
COPY envoy/quotas.yaml envoy/quotas-ratelimit.yaml /etc/envoy/
ENTRYPOINT ["envoy"]
CMD ["--config-path", "/etc/envoy/envoy.yaml"]

FROM ${DEBIAN} AS demo
COPY --from=build /out/tollgate-demo /usr/local/bin/tollgate-demo
# Volumes take their owner from here when they are first used.
RUN mkdir -p /demo/certs /demo/trust /demo/issuer && chown -R 65532:65532 /demo
USER 65532:65532
ENTRYPOINT ["tollgate-demo"]
