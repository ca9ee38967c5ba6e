package config

import (
	"net/netip"
	"strings"

	way "mailout/internal/route"
)

// at is where a key stands in the file, or where its table does.
func (l *loader) at(k *key, i int) int {
	if p, ok := l.places[k.full(i)]; ok {
		return p.value.at
	}
	return l.sectionAt(k.table, i)
}

// accuse reports that a key, as it stands or by default, contradicts another.
func (l *loader) accuse(table, name string, i int, message string) {
	k := findTable(table).key(name)
	l.fail(l.at(k, i), k.label(), message)
}

// sound reports whether every key named was read without complaint, so that it
// can be compared with others.
func (l *loader) sound(full ...string) bool {
	for _, f := range full {
		if l.bad[f] {
			return false
		}
	}
	return true
}

// contradictions reports keys that are possible alone but not together.
func (l *loader) contradictions() {
	l.peersComplete() // others look at what it fills in
	l.journalCoversExpiry()
	l.listenersApart()
	l.listenersWithinLimits()
	l.sourcesApart()
	l.poolsComplete()
	l.warmupComplete()
	l.credentialsComplete()
	l.namesOnce()
	l.routesComplete()
	l.routesReachable()
	l.notOurselves()
	l.socketFits()
	l.selectorsOnce()
	l.updateComplete()
	l.listenersSecure()
	l.acmeComplete()
	l.usersComplete()
	l.webhooksComplete()
	l.pickupsApart()
	l.returnsComplete()
	l.unsubscribeComplete()
	l.tlsReportsComplete()
	l.keysOnce()
	l.httpComplete()
	l.rulesWhole()
	l.shapesWhole()
}

// journalCoversExpiry: a message that still waits must not lose its history.
func (l *loader) journalCoversExpiry() {
	if !l.sound("journal.keep") {
		return
	}
	kept := l.cfg.Journal.Keep
	late := func(table, full string, i int, text string) {
		if !l.sound(full) {
			return
		}
		if l.cfg.given["journal.keep"] {
			label := findTable(table).key("expire").label()
			l.accuse("journal", "keep", 0, quote(formatDuration(kept))+" is shorter than "+label+" ("+text+"): mail that still waits would lose its history")
			return
		}
		l.accuse(table, "expire", i, text+" is longer than [journal] keep ("+quote(formatDuration(kept))+", the default): mail that still waits would lose its history (write keep = "+text+" or more in [journal] too)")
	}
	if d := l.cfg.Delivery.Expire; d > kept {
		late("delivery", "delivery.expire", 0, quote(formatDuration(d)))
		return // streams take it over
	}
	for i, s := range l.cfg.Streams {
		if s.Expire > kept {
			late("stream", findTable("stream").full(i)+".expire", i, quote(formatDuration(s.Expire)))
		}
	}
}

// listenersApart: no two listeners can share an address and port; the
// unspecified address takes all of its family.
func (l *loader) listenersApart() {
	for i, b := range l.cfg.Listen {
		for j, a := range l.cfg.Listen[:i] {
			if !l.sound(findTable("listen").full(i)+".address", findTable("listen").full(j)+".address") || !collide(a.Address, b.Address) {
				continue
			}
			line, _ := l.doc.position(l.at(findTable("listen").key("address"), j))
			l.accuse("listen", "address", i, quote(b.Address.String())+" is taken by the [[listen]] on line "+itoa(line)+" ("+quote(a.Address.String())+")")
			break
		}
	}
}

// listenersWithinLimits: intake holds [limits] for every door, so a listener
// that promised more would refuse at the end what it let in at the start.
func (l *loader) listenersWithinLimits() {
	for i, own := range l.cfg.Listen {
		full := findTable("listen").full(i)
		if most := l.cfg.Limits.MessageSize; own.MessageSize > most && l.sound(full+".message_size", "limits.message_size") {
			l.accuse("listen", "message_size", i, quote(formatSize(own.MessageSize))+" is more than [limits] message_size ("+quote(formatSize(most))+"), which holds for all mail")
		}
		if most := l.cfg.Limits.Recipients; own.Recipients > most && l.sound(full+".recipients", "limits.recipients") {
			l.accuse("listen", "recipients", i, itoa(own.Recipients)+" is more than [limits] recipients ("+itoa(most)+"), which holds for all mail")
		}
	}
}

func collide(a, b netip.AddrPort) bool {
	if a.Port() != b.Port() || a.Port() == 0 || a.Addr().Unmap().Is4() != b.Addr().Unmap().Is4() {
		return false
	}
	return a.Addr().Unmap() == b.Addr().Unmap() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified()
}

// namesOnce: a stream has one set of times.
func (l *loader) namesOnce() {
	first := map[string]int{}
	for i, s := range l.cfg.Streams {
		if !l.sound(findTable("stream").full(i) + ".name") {
			continue
		}
		if j, twice := first[s.Name]; twice {
			line, _ := l.doc.position(l.at(findTable("stream").key("name"), j))
			l.accuse("stream", "name", i, quote(s.Name)+" stands twice, first on line "+itoa(line)+" (put its keys together)")
			continue
		}
		first[s.Name] = i
	}
}

// notOurselves: mail given to ourselves goes round for ever.
func (l *loader) notOurselves() {
	if r := &l.cfg.Router; l.sound("router.host", "router.port", "router.hosts") && r.Host != "" {
		l.notOurPeers("router", 0, &r.Peers, r.Host, r.Port, "none")
	}
	for i, r := range l.cfg.Routes {
		full := findTable("route").full(i)
		if !l.sound(full+".host", full+".port", full+".tls") {
			continue
		}
		if !r.To() {
			continue
		}
		l.notOurPeers("route", i, &r.Peers, r.Host, r.Port, RouteDirect)
	}
}

// notOurPeers: none of a table's hosts is this very daemon.
func (l *loader) notOurPeers(table string, i int, p *Peers, host string, port uint16, directly string) {
	name, advice := "host", ` (write "`+directly+`" to deliver directly)`
	if len(p.Hosts) > 0 {
		name, advice = "hosts", " (take it out)"
	}
	told := false
	p.EachPeer(host, port, func(peer way.Peer) {
		if why := l.ourselves(peer.Host, peer.Port); why != "" && !told && !peer.MX && peer.Socket == "" {
			told = true
			l.accuse(table, name, i, why+advice)
		}
	})
}

// ourselves says why host and port are this very daemon; empty when not.
func (l *loader) ourselves(host string, port uint16) string {
	if host == "" {
		return ""
	}
	if strings.EqualFold(host, l.cfg.Hostname) {
		return quote(host) + " is our own hostname: mail would go in a circle"
	}
	for _, s := range l.cfg.Sources {
		if strings.EqualFold(host, s.Hostname) {
			return quote(host) + " is the hostname of our own [[source]]: mail would go in a circle"
		}
	}
	for _, peer := range loopbackOr(host) {
		for i, own := range l.cfg.Listen {
			if l.sound(findTable("listen").full(i)+".address") && reaches(netip.AddrPortFrom(peer, port), own.Address) {
				return quote(host) + " port " + itoa(int(port)) + " is our own [[listen]] address " + quote(own.Address.String()) + ": mail would go in a circle"
			}
		}
	}
	return ""
}

// loopbackOr gives the addresses that a host text names without a look-up.
func loopbackOr(host string) []netip.Addr {
	if strings.EqualFold(host, "localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	return nil
}

// reaches reports whether a connection to peer surely ends at a listener on
// own: the same address, or loopback where every address is listened on.
func reaches(peer, own netip.AddrPort) bool {
	if peer.Port() != own.Port() {
		return false
	}
	if own.Addr().IsUnspecified() {
		return peer.Addr().IsLoopback() && peer.Addr().Is4() == own.Addr().Is4()
	}
	return peer.Addr() == own.Addr().Unmap()
}

// maxSocket is the longest path of a Unix socket that every system takes.
const maxSocket = 103

// socketFits: the kernel bounds the path of a socket.
func (l *loader) socketFits() {
	if len(l.cfg.HTTP.Socket) <= maxSocket || !l.sound("http.socket", "spool") {
		return
	}
	why := quote(l.cfg.HTTP.Socket) + " is longer than the " + itoa(maxSocket) + " octets of a socket's path"
	if l.cfg.given["http.socket"] {
		l.accuse("http", "socket", 0, why)
		return
	}
	l.accuse("", "spool", 0, "the control socket "+why+` (write a shorter one: [http] socket = "/run/mailout.sock")`)
}
