package shape

import (
	_ "embed"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"mailout/internal/mta"
)

//go:embed providers.tsv
var shippedProviders string

// providers are the shipped table, read once; a test reads it too.
var providers = mustProviders(shippedProviders)

// ProviderDefaults is what is known of one provider.
type ProviderDefaults struct {
	Name   string // "google", as [[shape]] and statistics have it
	Title  string // for people
	MX     []string
	Limits mta.Limits // zero values: nothing is said; Rates is empty
	// Sources gives the document of each number, by the key of [[shape]].
	Sources map[string]string
}

// table is a read providers.tsv.
type table struct {
	version string
	list    []ProviderDefaults // by name
	byName  map[string]*ProviderDefaults
	exact   map[string]string // host → provider
	under   map[string]string // "google.com" → provider, from "*.google.com"
}

// Provider gives who runs mail servers, by the names of the hosts in their
// order of preference: the provider of the first. It is empty when nobody known
// does. Names are compared in lower case without a trailing dot.
func Provider(hosts []string) string {
	if len(hosts) == 0 {
		return ""
	}
	return providers.of(hosts[0])
}

// ProviderVersion names the shipped table.
func ProviderVersion() string { return providers.version }

// Providers lists what the shipped table says, by name. The caller must not
// change it.
func Providers() []ProviderDefaults { return providers.list }

// Defaults gives what the shipped table says of a provider.
func Defaults(provider string) (ProviderDefaults, bool) {
	p := providers.byName[provider]
	if p == nil {
		return ProviderDefaults{}, false
	}
	return *p, true
}

func (t *table) of(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if p, ok := t.exact[host]; ok {
		return p
	}
	for rest := host; ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return ""
		}
		rest = rest[dot+1:]
		if p, ok := t.under[rest]; ok {
			return p
		}
	}
}

func mustProviders(text string) *table {
	t, err := readProviders(text)
	if err != nil {
		panic("shape: the shipped providers: " + err.Error())
	}
	return t
}

// readProviders reads the form that providers.tsv describes.
func readProviders(text string) (*table, error) {
	t := &table{byName: map[string]*ProviderDefaults{}, exact: map[string]string{}, under: map[string]string{}}
	for n, line := range strings.Split(text, "\n") {
		if line = strings.TrimRight(line, " \t\r"); line == "" || line[0] == '#' {
			continue
		}
		if err := t.row(strings.Split(line, "\t")); err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	if t.version == "" {
		return nil, fmt.Errorf("there is no version")
	}
	for _, p := range t.byName {
		t.list = append(t.list, *p)
	}
	sort.Slice(t.list, func(i, j int) bool { return t.list[i].Name < t.list[j].Name })
	return t, nil
}

func (t *table) row(f []string) error {
	if len(f) == 2 && f[0] == "version" {
		t.version = f[1]
		return nil
	}
	if len(f) < 3 {
		return fmt.Errorf("%d fields", len(f))
	}
	name, key, value := f[0], f[1], f[2]
	p := t.byName[name]
	if p == nil {
		p = &ProviderDefaults{Name: name, Sources: map[string]string{}}
		t.byName[name] = p
	}
	switch key {
	case "title":
		p.Title = value
		return nil
	case "mx":
		return t.hosts(p, strings.Fields(value))
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return fmt.Errorf("%s of %s: %q is no number from 1", key, name, value)
	}
	if len(f) < 4 || f[3] == "" {
		return fmt.Errorf("%s of %s has no source", key, name)
	}
	p.Sources[key] = f[3]
	switch key {
	case "connections":
		p.Limits.Connections = n
	case "messages_per_connection":
		p.Limits.MessagesPerConnection = n
	case "recipients_per_message":
		p.Limits.RecipientsPerMessage = n
	default:
		return fmt.Errorf("%s is no key", key)
	}
	return nil
}

// hosts adds patterns of host names.
func (t *table) hosts(p *ProviderDefaults, patterns []string) error {
	for _, pattern := range patterns {
		into, name := t.exact, pattern
		if rest, ok := strings.CutPrefix(pattern, "*."); ok {
			into, name = t.under, rest
		}
		if name != strings.ToLower(name) || strings.Contains(name, "*") || !strings.Contains(name, ".") {
			return fmt.Errorf("mx of %s: %q is no pattern", p.Name, pattern)
		}
		if other, taken := into[name]; taken {
			return fmt.Errorf("mx of %s: %s is %s's already", p.Name, pattern, other)
		}
		into[name] = p.Name
		p.MX = append(p.MX, pattern)
	}
	return nil
}
