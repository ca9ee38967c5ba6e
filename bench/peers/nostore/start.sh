# The limit: a relay of mailout's own parts that stores nothing.
exec /run/bench/bin/nostore -listen 198.18.0.1:25 -hostname relay.bench.test -trusted 198.18.0.0/15 2>>/run/bench/spool/nostore/log
