# mailout that signs every message with Ed25519.
exec bash /run/bench/conf/signed/run.sh signed ed
