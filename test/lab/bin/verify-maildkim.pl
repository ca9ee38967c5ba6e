# Verifies every file of a folder with Mail::DKIM: a line "NAME ok" or "NAME why not".
use strict; use warnings;
use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS::Resolver;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(persistent_udp => 1));
my $dir = $ARGV[0];
opendir(my $d, $dir) or die $!;
for my $name (sort grep { -f "$dir/$_" } readdir $d) {
    my $v = Mail::DKIM::Verifier->new;
    open(my $f, '<:raw', "$dir/$name") or die $!;
    while (read($f, my $piece, 65536)) { $v->PRINT($piece) }
    $v->CLOSE;
    print "$name ", ($v->result eq 'pass' ? 'ok' : $v->result_detail), "\n";
}
