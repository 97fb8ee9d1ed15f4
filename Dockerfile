# One image for farmd and farm-node. With a GPU: the same image; torch from the package index brings CUDA along.
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 farm && install -d -o farm -g farm /var/lib/farm
WORKDIR /srv/farm
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY packaging packaging
COPY farm farm
COPY farmd farmd
COPY scheduler scheduler
COPY renderer renderer
COPY nodeagent nodeagent
COPY plugins plugins
RUN pip install --no-cache-dir --constraint constraints.txt ./packaging/client .

USER farm
ENV FARM_HOME=/var/lib/farm XDG_CACHE_HOME=/var/lib/farm/cache
VOLUME /var/lib/farm
CMD ["farmd"]
