# Three images, from Debian's packages alone: db (PostgreSQL with wal2json), nats, and headwater (the
# programs). compose.yaml puts them together. BASE may be any Debian 12 or 13.
ARG BASE=debian:12-slim

# ---- accounts: the same numbers everywhere --------------------------------------------------------
# db recognises who calls on its socket by user id, so db and headwater must agree on them.
FROM ${BASE} AS accounts
RUN set -e; id=800; \
    for name in headwater-migrate headwater-api headwater-reconciler headwater-agent; do \
        id=$((id + 1)); \
        useradd --system --uid $id --user-group --home-dir /nonexistent --shell /usr/sbin/nologin $name; \
    done
COPY scripts/install-deps /usr/local/sbin/

# ---- db -------------------------------------------------------------------------------------------
FROM accounts AS db
RUN install-deps 'postgresql-15|postgresql-17' 'postgresql-15-wal2json|postgresql-17-wal2json' \
    && rm -rf /var/lib/apt/lists/* \
    && ln -s /usr/lib/postgresql/*/bin /usr/lib/postgresql/bin
ENV PATH=/usr/lib/postgresql/bin:$PATH
COPY deploy/db/ /etc/headwater/
# Servers that know this setting load only the output plugins that it names; the others would not
# start with it.
RUN if postgres --describe-config | grep -q '^output_plugin_libraries'; then \
        echo "output_plugin_libraries = 'pgoutput, test_decoding, wal2json'" \
            >> /etc/headwater/postgresql.conf; \
    fi
USER postgres
VOLUME /var/lib/postgresql
STOPSIGNAL SIGINT
ENTRYPOINT ["/etc/headwater/entrypoint"]

# ---- nats -----------------------------------------------------------------------------------------
FROM accounts AS nats
RUN install-deps nats-server curl && rm -rf /var/lib/apt/lists/* \
    && install -d -o nats -g nats -m 0700 /var/lib/nats
COPY deploy/nats/ /etc/nats/
# From 2.10 on an acknowledged message can be on the disk; earlier servers refuse the setting.
RUN echo 'sync_interval: always' > /etc/nats/sync.conf \
    && { nats-server -t -c /etc/nats/nats-server.conf || : > /etc/nats/sync.conf; }
USER nats
VOLUME /var/lib/nats
CMD ["nats-server", "-c", "/etc/nats/nats-server.conf"]

# ---- headwater ------------------------------------------------------------------------------------
FROM accounts AS build
WORKDIR /src
RUN install-deps make
COPY Makefile ./
COPY mk/ mk/
COPY common/version.h common/
COPY scripts/install-deps scripts/
RUN make deps-build
COPY . .
RUN make -j"$(nproc)" all && make install DESTDIR=/out
# The packages of the libraries that the programs name, whatever this Debian calls them.
RUN objdump -p /out/usr/local/bin/* | sed -n 's/^ *NEEDED *//p' | sort -u | sed 's,^,*/,' \
    | xargs dpkg -S | cut -d: -f1 | sort -u > /out/packages

FROM accounts AS headwater
COPY --from=build /out/packages /tmp/packages
RUN install-deps curl $(cat /tmp/packages) && rm -rf /var/lib/apt/lists/* /tmp/packages \
    && install -d -o headwater-agent -g headwater-agent /var/lib/headwater-agent
COPY --from=build /out/usr/local/ /usr/local/
USER headwater-agent
