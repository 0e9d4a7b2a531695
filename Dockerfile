# Builds the book, and serves nothing:
#   docker build -t steering-companion .
#   docker run --rm -v companion-cache:/cache -v "$PWD/_build:/opt/companion/_build" steering-companion
# For the small CPU build of torch: --build-arg TORCH_ARGS="...", as the README says.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home reader \
    && mkdir -p /cache /opt/companion/_build \
    && chown -R reader /cache /opt/companion

USER reader
WORKDIR /opt/companion
ARG TORCH_ARGS=""

# The environment first: it changes seldom, and is the slow part.
COPY --chown=reader Makefile pyproject.toml requirements-lock.txt README.md LICENSE ./
COPY --chown=reader steerkit/__init__.py steerkit/
COPY --chown=reader companion/__init__.py companion/
COPY --chown=reader tools/ship.py tools/
RUN make install TORCH_ARGS="$TORCH_ARGS"

COPY --chown=reader . .

# Model and tables; kept in a volume, a second run computes nothing again.
ENV STEERKIT_CACHE=/cache
VOLUME /cache
CMD ["make", "book"]
