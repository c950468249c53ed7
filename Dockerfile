# The server in a container:
#   docker build -t audiorep .
#   docker run --rm -p 127.0.0.1:8000:8000 audiorep --insecure
#   docker run --rm -p 8000:8000 -v ./token:/run/secrets/token:ro audiorep --token-file /run/secrets/token
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY audiorep audiorep
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[serve]" && rm -r /wheels
RUN useradd --uid 10001 --create-home audiorep
USER audiorep
WORKDIR /home/audiorep
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["audiorep", "serve", "--host", "0.0.0.0"]
CMD ["--token-file", "/run/secrets/token"]
