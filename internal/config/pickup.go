package config

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailout/internal/account"
)

// Pickup is a directory that messages are taken out of.
type Pickup struct {
	Directory string // absolute
	Bad       string // name of the directory in it for what cannot become mail
	Done      string // name of the one for messages that were taken; empty: they are removed
	Quiet     time.Duration
	Poll      time.Duration
	Stream    string // of messages that name none; empty: mta.DefaultStream
	User      string // name of the User whose rights hold; empty: none
	From      account.Senders
}

func pickupTable() *table {
	at := func(c *Config, i int) *Pickup { return &c.Pickups[i] }
	return &table{name: "pickup", array: true, live: true,
		count: func(c *Config) int { return len(c.Pickups) },
		grow:  func(c *Config) { c.Pickups = append(c.Pickups, Pickup{}) },
		doc:   "Directories in which programs leave messages as `.eml` files.", keys: []*key{
			newKey("directory", mapped("path", requiredPath, keep), func(c *Config, i int) *string { return &at(c, i).Directory }).
				needs(`directory = "/var/spool/mailout-pickup"`, "The directory; made with mode 0700 when it is missing."),
			newKey("bad", text("name", checkRoom), func(c *Config, i int) *string { return &at(c, i).Bad }).
				is(`"bad"`, "Name of the directory in it that gets files which cannot become mail, each with its reason."),
			newKey("done", text("name", optionalRoom), func(c *Config, i int) *string { return &at(c, i).Done }).
				is(`""`, "Name of the directory in it that gets the files of messages that were taken; empty: they are removed."),
			newKey("quiet", duration(briefly, day, "5s"), func(c *Config, i int) *time.Duration { return &at(c, i).Quiet }).
				is(`"5s"`, "How long a file must be unchanged before it is taken, unless it was seen to be renamed into the directory."),
			newKey("poll", duration(briefly, day, "30s"), func(c *Config, i int) *time.Duration { return &at(c, i).Poll }).
				is(`"30s"`, "Time between looks at the directory, beside the system's signals, which there are none of for network file systems."),
			newKey("stream", text("stream name", optionalStream), func(c *Config, i int) *string { return &at(c, i).Stream }).
				is(`""`, "Stream of messages that name none; empty: `default`."),
			newKey("user", text("user name", optionalUser), func(c *Config, i int) *string { return &at(c, i).User }).
				is(`""`, "Name of a `[[user]]` whose `from`, `stream` and `rate` hold for these messages."),
			newKey("from", list(sender(), 1, maxList, `["*@example.com"]`), func(c *Config, i int) *[]string { return (*[]string)(&at(c, i).From) }).
				is(`["*"]`, "Addresses that messages may come from, in the envelope and in the From field, as those of a `[[user]]`; not beside `user`."),
		}}
}

// checkRoom says why s cannot name a directory in a pickup directory.
func checkRoom(s string) string {
	switch {
	case s == "" || len(s) > 64 || s[0] == '.' || strings.ContainsAny(s, `/\:`) || strings.IndexFunc(s, func(c rune) bool { return c < ' ' }) >= 0:
		return shown(s) + " is not the name of a directory in it (1 to 64 characters without / \\ :, not beginning with a dot)"
	case strings.EqualFold(filepath.Ext(s), ".eml"), strings.EqualFold(filepath.Ext(s), ".json"):
		return shown(s) + " would be taken for a message"
	}
	return ""
}

func optionalRoom(s string) string {
	if s == "" {
		return ""
	}
	return checkRoom(s)
}

func optionalUser(s string) string {
	if s == "" {
		return ""
	}
	return checkUser(s)
}

// pickupsApart: a directory has one taker, its rooms are two, and a user that
// is named is there.
func (l *loader) pickupsApart() {
	tbl := findTable("pickup")
	first := map[string]int{filepath.Clean(l.cfg.Sendmail.Drop): -1}
	for i, p := range l.cfg.Pickups {
		full := tbl.full(i)
		if l.sound(full+".directory", "sendmail.drop") && p.Directory != "" {
			clean := filepath.Clean(p.Directory)
			j, twice := first[clean]
			switch {
			case twice && j < 0:
				l.accuse("pickup", "directory", i, quote(p.Directory)+" is the drop folder of [sendmail]")
			case twice:
				line, _ := l.doc.position(l.at(tbl.key("directory"), j))
				l.accuse("pickup", "directory", i, quote(p.Directory)+" stands twice, first on line "+itoa(line))
			default:
				first[clean] = i
			}
		}
		if l.sound(full+".bad", full+".done") && p.Bad == p.Done {
			l.accuse("pickup", "done", i, quote(p.Done)+" is for bad files already")
		}
		if p.User == "" || !l.sound(full+".user") {
			continue
		}
		if !slices.ContainsFunc(l.cfg.Users, func(u User) bool { return u.Name == p.User }) {
			l.accuse("pickup", "user", i, quote(p.User)+" is no [[user]]")
		}
		if l.cfg.given[full+".from"] {
			l.accuse("pickup", "from", i, "stands beside user, whose own from holds (keep one of them)")
		}
	}
}
