# The same with RSA of 2,048 bits.
exec bash /run/bench/conf/signed/run.sh signed-rsa rsa
