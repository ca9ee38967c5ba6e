# mailout in a program that profiles it (bench/profile.sh), with SIGN=ed or
# SIGN=rsa one that signs.
mkdir -p /run/bench/spool/mailout
rm -rf /run/bench/spool/mailout/queue
conf=/run/bench/profiled.toml
cp /run/bench/conf/mailout/mailout.toml $conf
if [ -n "${SIGN:-}" ]; then
  printf '[[dkim]]\ndomain = "bench.test"\nselector = "%s"\nkey = "/run/bench/dkim/%s.pem"\n' "$SIGN" "$SIGN" >>$conf
fi
exec /run/bench/bin/profiled -config $conf -out /run/bench/out -kinds "$PROFILE" 2>>/run/bench/spool/profiled/log
