# mailout in a program that profiles it (bench/profile.sh).
exec /run/bench/bin/profiled -config /run/bench/conf/mailout/mailout.toml -out /run/bench/out -kinds "$PROFILE" 2>>/run/bench/spool/profiled/log
