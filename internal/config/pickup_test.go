package config

import (
	"strings"
	"testing"
)

func TestPickupRefused(t *testing.T) {
	t.Parallel()
	one := "\n[[pickup]]\ndirectory = \"/a\"\n"
	for text, want := range map[string]string{
		"\n[[pickup]]\nbad = \"x\"\n":                           "directory: is missing",
		one + "bad = \"../x\"\n":                                "is not the name of a directory in it",
		one + "bad = \".taken\"\n":                              "is not the name of a directory in it",
		one + "bad = \"\"\n":                                    "is not the name of a directory in it",
		one + "done = \"x.EML\"\n":                              "would be taken for a message",
		one + "done = \"bad\"\n":                                "is for bad files already",
		one + one:                                               "stands twice, first on line 4",
		one + "\n[[pickup]]\ndirectory = \"/b/../a\"\n":         "stands twice",
		"\n[[pickup]]\ndirectory = \"/var/lib/mailout/drop\"\n": "is the drop folder",
		one + "user = \"erp\"\n":                                "is no [[user]]",
		one + "stream = \"a b\"\n":                              "stream",
		one + "from = [\"x\"]\n":                                "has no @",
		one + "quiet = \"1ms\"\n":                               "quiet",
		one + "from = [\"*\"]\nuser = \"u\"\n[[user]]\nname = \"u\"\nfrom = [\"*\"]\npassword_file = \"/x\"\n": "stands beside user",
	} {
		if _, err := Parse("f", []byte(host+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, not %q", text, err, want)
		}
	}
}
