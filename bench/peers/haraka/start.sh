# Haraka from npm; settings in config/.
set -eu
S=/run/bench/spool/haraka
mkdir -p $S/queue
cp -R /run/bench/conf/haraka/config $S/
cp /run/bench/haraka/node_modules/Haraka/config/connection.ini $S/config/ # as `haraka -i` does; unchanged
node /run/bench/haraka/node_modules/Haraka/bin/haraka -c $S >>$S/log 2>&1 &
wait $!
