# mailout in a program that profiles it (bench/profile.sh).
mkdir -p /run/bench/spool/mailout
rm -rf /run/bench/spool/mailout/queue
exec /run/bench/bin/profiled -config /run/bench/conf/mailout/mailout.toml -out /run/bench/out -kinds "$PROFILE" 2>>/run/bench/spool/profiled/log
