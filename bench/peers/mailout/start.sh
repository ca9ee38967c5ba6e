# mailout with its defaults but for where it is.
exec /run/bench/bin/mailout --config /run/bench/conf/mailout/mailout.toml serve 2>>/run/bench/spool/mailout/log
