# mailout as peers/mailout has it, with the key $2 of bench.test (bench/inside.sh).
conf=/run/bench/$1.toml
{
  sed "s|/run/bench/spool/mailout/|/run/bench/spool/$1/|" /run/bench/conf/mailout/mailout.toml
  printf '[[dkim]]\ndomain = "bench.test"\nselector = "%s"\nkey = "/run/bench/dkim/%s.pem"\n' "$2" "$2"
} >$conf
exec /run/bench/bin/mailout serve --config $conf 2>>/run/bench/spool/$1/log
