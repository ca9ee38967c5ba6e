# mailout with a thousand [[shape]] rules: 999 for hosts that get no mail here,
# by domain, host, provider and stream, and one behind them that all of it meets,
# with limits that are asked for every message and hold nothing back.
conf=/run/bench/shaped.toml
{
  sed 's|/run/bench/spool/mailout/|/run/bench/spool/shaped/|' /run/bench/conf/mailout/mailout.toml
  echo 'provider_limits = true'
  for i in $(seq 1 333); do
    printf '[[shape]]\nmx = ["*.mx%d.example"]\nconnections = 5\nrate = "%d/m"\n' "$i" "$i"
    printf '[[shape]]\ndomains = ["d%d.example", "*.d%d.example"]\nrate = "%d/h"\nby = ["domain"]\n' "$i" "$i" "$i"
    printf '[[shape]]\nproviders = ["google"]\nstreams = ["s%d"]\nrate = "%d/s"\nby = ["source", "stream"]\n' "$i" "$i"
  done
  printf '[[shape]]\nmx = ["*.bench.test"]\nconnections = 20\nmessages_per_connection = 100\nrate = ["1000000/s", "1000000000/d"]\n'
} >$conf
exec /run/bench/bin/mailout serve --config $conf 2>>/run/bench/spool/shaped/log
