# chasquid relays for authenticated users only, which neither generator is. So
# it takes the mail for a domain of its own whose users are aliases of the
# addresses of the case, which is the same road but for one look into a map in
# memory. It has no settings of concurrency: every message has a goroutine.
set -eu
S=/run/bench/spool/chasquid
C=$S/conf
mkdir -p $S/data $C/domains/alias.bench.test $C/certs/relay.bench.test
cp /run/bench/conf/chasquid/chasquid.conf $C/
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=relay.bench.test \
  -keyout $C/certs/relay.bench.test/privkey.pem -out $C/certs/relay.bench.test/fullchain.pem 2>/dev/null
{
  echo 'one: user@one.bench.test'
  for i in $(seq 0 999); do echo "c$i: user@c$i.bench.test"; echo "d$i: user@d$i.bench.test"; done
} >$C/domains/alias.bench.test/aliases
chown -R _chasquid:_chasquid $S
setpriv --reuid=_chasquid --regid=_chasquid --clear-groups --inh-caps=+net_bind_service --ambient-caps=+net_bind_service \
  chasquid -config_dir=$C >>$S/log 2>&1 &
wait $!
