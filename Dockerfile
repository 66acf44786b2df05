# The app as a hosted service. Every step is a make target that also runs without Docker.
FROM python:3.11.14-slim-bookworm

RUN apt-get update \
 && apt-get install --yes --no-install-recommends make \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 cnnvis

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    TORCH_HOME=/home/cnnvis/.cache/torch \
    NUMBA_CACHE_DIR=/home/cnnvis/.cache/numba \
    PORT=8501

WORKDIR /app
COPY Makefile requirements.txt ./
RUN make install
COPY . .

# The code stays root's: the service can write to its home only, where models are cached.
USER cnnvis
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD [".venv/bin/python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/_stcore/health', timeout=4)"]
CMD ["make", "serve"]
