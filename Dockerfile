# One image for every process of compose.yaml; it holds no data and runs as an ordinary user.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/ai-agents \
 && /opt/ai-agents/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY plugins plugins
COPY analytics analytics
COPY streams streams
COPY cli cli
RUN /opt/ai-agents/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
COPY --from=build /opt/ai-agents /opt/ai-agents
ENV PATH=/opt/ai-agents/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 10001 ai-agents && mkdir -p /data /tables /secrets && chown ai-agents /data /tables
USER ai-agents
CMD ["ai-agents", "--help"]
