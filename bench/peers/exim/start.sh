# Exim with a relay's configuration; settings in exim.conf.
set -eu
S=/run/bench/spool/exim
mkdir -p $S/spool $S/log
chown -R Debian-exim:Debian-exim $S
mkdir -p /etc/exim4
echo /run/bench/conf/exim/exim.conf >/etc/exim4/trusted_configs
exim4 -C /run/bench/conf/exim/exim.conf -bdf -q1m & # stays the child of this shell, which reaps its orphans
wait $!
