# OpenSMTPD; settings in smtpd.conf. Its spool's place is compiled in.
set -eu
S=/run/bench/spool/opensmtpd
mkdir -p /var/lib/opensmtpd/empty
chmod 711 $S
smtpd -d -f /run/bench/conf/opensmtpd/smtpd.conf >>$S/log 2>&1 &
wait $!
