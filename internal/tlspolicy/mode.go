package tlspolicy

// Mode is what an MTA-STS policy wants done with hosts that do not keep to it
// (RFC 8461 5).
type Mode uint8

// The modes.
const (
	ModeNone    Mode = iota // nothing: as without a policy
	ModeTesting             // they get the mail, and reports tell of them
	ModeEnforce             // they get no mail
)

var modeWords = [...]string{"none", "testing", "enforce"}

// String gives the word of the policy.
func (m Mode) String() string { return modeWords[m] }

// ParseMode reads a policy's word.
func ParseMode(word string) (Mode, bool) {
	for i, w := range modeWords {
		if w == word {
			return Mode(i), true
		}
	}
	return 0, false
}
