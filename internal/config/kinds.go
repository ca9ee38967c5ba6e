package config

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"mailout/internal/mta"
)

// kind reads and writes the values of one type. read gives complaints with
// their places, never a half-read value.
type kind[T any] struct {
	name  string // for docs: "duration"
	read  func(v *value) (T, []complaint)
	write func(T) string // as TOML
	plain func(T) string // as a shell wants it: a string without quotes
	// bare makes TOML of what was typed on a command line.
	bare func(text string) string
}

func one(v *value, format string, args ...any) []complaint {
	return []complaint{{v.at, fmt.Sprintf(format, args...)}}
}

// scalar makes a kind that TOML writes as a string.
func scalar[T any](name string, parse func(v *value) (T, string), write func(T) string) kind[T] {
	return kind[T]{
		name: name,
		read: func(v *value) (T, []complaint) {
			x, problem := parse(v)
			if problem != "" {
				return x, one(v, "%s", problem)
			}
			return x, nil
		},
		write: func(x T) string { return quote(write(x)) },
		plain: write,
		bare:  bareString,
	}
}

// bareString takes a TOML string as it is and quotes everything else.
func bareString(text string) string {
	if len(text) >= 2 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0] {
		return text
	}
	return quote(text)
}

func asIs(text string) string { return strings.TrimSpace(text) }

// text is a string that check accepts; check says what is wrong, or nothing.
func text(name string, check func(string) string) kind[string] {
	return scalar(name, func(v *value) (string, string) {
		if v.kind != unstable.String {
			return "", v.shown() + " is not a " + name + " (write it in quotes)"
		}
		return v.text, check(v.text)
	}, func(s string) string { return s })
}

// mapped is a text that is kept in another form than it is written.
func mapped(name string, in func(string) (kept, problem string), out func(string) string) kind[string] {
	return scalar(name, func(v *value) (string, string) {
		if v.kind != unstable.String {
			return "", v.shown() + " is not a " + name + " (write it in quotes)"
		}
		return in(v.text)
	}, out)
}

// duration is a time between least and most.
func duration(least, most time.Duration, sample string) kind[time.Duration] {
	return scalar("duration", func(v *value) (time.Duration, string) {
		d, ok := parseDuration(v.text)
		if v.kind != unstable.String || !ok {
			return 0, v.shown() + " is not a duration (write " + durationAdvice(v, sample) + ")"
		}
		if d < least || d > most {
			return 0, fmt.Sprintf("%s is out of range (from %q to %q)", v.shown(), formatDuration(least), formatDuration(most))
		}
		return d, ""
	}, formatDuration)
}

func durationAdvice(v *value, sample string) string {
	if isDigits(v.text) && len(v.text) < 10 {
		return fmt.Sprintf("%q, %[2]q, %[3]q or %[4]q", v.text+"s", v.text+"m", v.text+"h", v.text+"d")
	}
	if guess := guessDuration(v.text); guess != "" && v.kind == unstable.String {
		return quote(guess)
	}
	return "for example " + quote(sample)
}

// size is a number of octets between least and most.
func size(least, most int64, sample string) kind[int64] {
	return scalar("size", func(v *value) (int64, string) {
		n, ok := parseSize(v.text)
		if v.kind != unstable.String || !ok {
			advice := guessSize(v.text)
			if advice == "" {
				advice = sample
			}
			return 0, v.shown() + " is not a size (write " + quote(advice) + ")"
		}
		if n < least || n > most {
			return 0, fmt.Sprintf("%s is out of range (from %q to %q)", v.shown(), formatSize(least), formatSize(most))
		}
		return n, ""
	}, formatSize)
}

// word is one of a closed set.
func word[T comparable](w words[T]) kind[T] {
	name := w.list(", ", " or ")
	if len(w) > 1 {
		name = "one of " + name
	}
	return scalar(name, func(v *value) (T, string) {
		var zero T
		if v.kind != unstable.String {
			return zero, v.shown() + " is not " + w.list(", ", " or ")
		}
		for _, x := range w {
			if x.word == v.text {
				return x.value, ""
			}
		}
		problem := v.shown() + " is not " + w.list(", ", " or ")
		if near := nearest(v.text, w.names()); near != "" {
			problem += ` (did you mean "` + near + `"?)`
		}
		return zero, problem
	}, w.word)
}

// words is a closed set of values with the words of the configuration file.
type words[T comparable] []struct {
	word  string
	value T
}

func (w words[T]) word(x T) string {
	for _, e := range w {
		if e.value == x {
			return e.word
		}
	}
	return "unknown"
}

func (w words[T]) names() []string {
	out := make([]string, len(w))
	for i, e := range w {
		out[i] = e.word
	}
	return out
}

// list gives the words in quotes: "a", "b" or "c".
func (w words[T]) list(comma, or string) string {
	var b strings.Builder
	for i, e := range w {
		switch {
		case i == 0:
		case i == len(w)-1:
			b.WriteString(or)
		default:
			b.WriteString(comma)
		}
		b.WriteString(quote(e.word))
	}
	return b.String()
}

// boolean is true or false.
func boolean() kind[bool] {
	return kind[bool]{
		name: "true or false",
		read: func(v *value) (bool, []complaint) {
			if v.kind == unstable.Bool {
				return v.text == "true", nil
			}
			problem := v.shown() + " is not true or false"
			switch strings.ToLower(v.text) {
			case "true", "yes", "on", "1":
				problem += " (write true)"
			case "false", "no", "off", "0":
				problem += " (write false)"
			}
			return false, one(v, "%s", problem)
		},
		write: strconv.FormatBool,
		plain: strconv.FormatBool,
		bare:  asIs,
	}
}

// integer is a whole number between least and most.
func integer[T int | uint16](least, most int64) kind[T] {
	write := func(n T) string { return strconv.FormatInt(int64(n), 10) }
	return kind[T]{
		name: fmt.Sprintf("number, %d to %d", least, most),
		read: func(v *value) (T, []complaint) {
			if v.kind != unstable.Integer {
				problem := v.shown() + " is not a whole number"
				if n, err := strconv.ParseInt(v.text, 10, 64); err == nil && n >= least && n <= most {
					problem += fmt.Sprintf(" (write %d without quotes)", n)
				}
				return 0, one(v, "%s", problem)
			}
			n, err := strconv.ParseInt(strings.ReplaceAll(v.text, "_", ""), 0, 64)
			if err != nil || n < least || n > most {
				return 0, one(v, "%s is out of range (from %d to %d)", v.text, least, most)
			}
			return T(n), nil
		},
		write: write,
		plain: write,
		bare:  asIs,
	}
}

// list holds from least to most values of another kind.
func list[T any](of kind[T], least, most int, sample string) kind[[]T] {
	write := func(xs []T) string {
		texts := make([]string, len(xs))
		for i, x := range xs {
			texts[i] = of.write(x)
		}
		return "[" + strings.Join(texts, ", ") + "]"
	}
	return kind[[]T]{
		name: "list of " + of.name,
		read: func(v *value) ([]T, []complaint) {
			if v.kind != unstable.Array {
				return nil, one(v, "%s is not a list (write %s)", v.shown(), listAdvice(v, of, sample))
			}
			if len(v.items) < least {
				return nil, one(v, "is empty (write %s)", sample)
			}
			if len(v.items) > most {
				return nil, one(v, "has %d values (at most %d are possible)", len(v.items), most)
			}
			out, all := make([]T, 0, len(v.items)), []complaint(nil)
			for _, item := range v.items {
				x, bad := of.read(item)
				all = append(all, bad...)
				out = append(out, x)
			}
			if all != nil {
				return nil, all
			}
			return out, nil
		},
		write: write,
		plain: write,
		bare:  func(text string) string { return bareList(text, of.bare) },
	}
}

func listAdvice[T any](v *value, of kind[T], sample string) string {
	if _, bad := of.read(v); bad == nil && v.kind == unstable.String {
		return "[" + quote(v.text) + "]"
	}
	return sample
}

// bareList takes a TOML array as it is, and splits everything else at commas.
func bareList(text string, bare func(string) string) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		return text
	}
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, bare(item))
		}
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// address is one IP address.
func address() kind[netip.Addr] {
	return scalar("address", func(v *value) (netip.Addr, string) {
		a, err := netip.ParseAddr(v.text)
		if v.kind != unstable.String || err != nil {
			return a, v.shown() + ` is not an IP address (write for example "192.0.2.10")`
		}
		if a.IsUnspecified() || a.IsMulticast() {
			return a, v.shown() + " is not an address to send from"
		}
		return a.Unmap(), ""
	}, netip.Addr.String)
}

// endpoint is an address and port to listen on.
func endpoint() kind[netip.AddrPort] {
	return scalar("ADDRESS:PORT", func(v *value) (netip.AddrPort, string) {
		ap, err := netip.ParseAddrPort(v.text)
		if v.kind == unstable.String && err == nil {
			return ap, ""
		}
		return ap, v.shown() + " is not an address and port (write " + endpointAdvice(v.text) + ")"
	}, netip.AddrPort.String)
}

func endpointAdvice(s string) string {
	host, port, ok := strings.Cut(s, ":")
	_, err := strconv.ParseUint(port, 10, 16)
	switch {
	case ok && err == nil && (host == "" || host == "*"):
		return `"0.0.0.0:` + port + `" or "[::]:` + port + `" for every address of the machine`
	case ok && err == nil && host == "localhost":
		return `"127.0.0.1:` + port + `"`
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return quote(netip.AddrPortFrom(a, 25).String())
	}
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return fmt.Sprintf(`"127.0.0.1:%d"`, n)
	}
	return `for example "127.0.0.1:25"`
}

// network is a network in CIDR form; an address alone is itself only.
func network() kind[netip.Prefix] {
	return scalar("network", func(v *value) (netip.Prefix, string) {
		if v.kind != unstable.String {
			return netip.Prefix{}, v.shown() + ` is not a network (write for example "192.0.2.0/24")`
		}
		if a, err := netip.ParseAddr(v.text); err == nil {
			return netip.PrefixFrom(a, a.BitLen()), ""
		}
		p, err := netip.ParsePrefix(v.text)
		switch {
		case err != nil:
			return p, v.shown() + ` is not a network (write for example "192.0.2.0/24")`
		case p != p.Masked():
			return p, v.shown() + ` has bits beyond its mask (write ` + quote(p.Masked().String()) + `)`
		case p.Bits() == 0:
			return p, v.shown() + ` would let everybody relay (write the networks of your own machines)`
		}
		return p, ""
	}, netip.Prefix.String)
}

// The closed sets.
var (
	routerUses = words[RouterUse]{{"always", UseAlways}, {"unresolved", UseUnresolved}, {"fallback", UseFallback}}
	eightBits  = words[EightBit]{{"convert", ConvertEightBit}, {"send", SendEightBit}}
	bareLFs    = words[bool]{{"refuse", false}, {"repair", true}}
	peerTLS    = words[mta.TLSRequirement]{{"opportunistic", mta.TLSOpportunistic}, {"required", mta.TLSRequired}, {"implicit", mta.TLSImplicit}, {"none", mta.TLSNone}}
	directTLS  = words[mta.TLSRequirement]{{"opportunistic", mta.TLSOpportunistic}, {"required", mta.TLSRequired}, {"none", mta.TLSNone}}
	listenTLS  = words[ListenTLS]{{"none", ListenClear}, {"offered", ListenOffered}, {"required", ListenRequired}, {"implicit", ListenImplicit}}
	listenAuth = words[ListenAuth]{{"tls", ListenAuthTLS}, {"always", ListenAuthAlways}, {"never", ListenAuthNever}}
	listenMin  = words[uint16]{{"1.0", tls.VersionTLS10}, {"1.1", tls.VersionTLS11}, {"1.2", tls.VersionTLS12}, {"1.3", tls.VersionTLS13}}
)
