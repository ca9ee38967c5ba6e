# Postfix as an operator would run it as a relay; settings in main.cf, master.cf.
set -eu
S=/run/bench/spool/postfix
mkdir -p $S/queue $S/data
chown postfix $S/data
mkdir -p /run/bench/postfix
cp /run/bench/conf/postfix/*.cf /run/bench/postfix/
exec postfix -c /run/bench/postfix start-fg
