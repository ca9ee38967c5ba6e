package internal

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	docLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	docFence   = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	docHeading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	docMark    = regexp.MustCompile(`[^\p{L}\p{N}_ -]+`)
)

// TestDocsLinks holds that what a page links to is there: the file, and in it the
// heading.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../docs/*/*.md", "../deploy/*.md", "../bench/*.md", "../test/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	links := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range docLink.FindAllStringSubmatch(docFence.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			links++
			if wrong := wrongLink(page, m[1]); wrong != "" {
				t.Errorf("%s: %s %s", page, m[1], wrong)
			}
		}
	}
	if len(pages) < 30 || links < 100 {
		t.Errorf("%d pages with %d links: is the pattern still right?", len(pages), links)
	}
}

// wrongLink says what is wrong with a link of a page; empty: nothing.
func wrongLink(page, link string) string {
	file, heading, named := strings.Cut(link, "#")
	target := page
	if file != "" {
		target = filepath.Join(filepath.Dir(page), file)
	}
	text, err := os.ReadFile(target)
	switch {
	case err != nil && !exists(target):
		return "is not there"
	case err != nil || !named:
		return "" // a folder
	}
	for _, m := range docHeading.FindAllStringSubmatch(string(text), -1) {
		if anchor(m[1]) == heading {
			return ""
		}
	}
	return "names a heading that is not there"
}

// anchor is what links call a heading.
func anchor(heading string) string {
	return strings.ReplaceAll(docMark.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), ""), " ", "-")
}

// TestDocsLinksCanFail shows each fault to be seen.
func TestDocsLinksCanFail(t *testing.T) {
	t.Parallel()
	for link, want := range map[string]string{
		"queue.md": "", "gone.md": "is not there", "decisions": "", "../README.md": "", "unsubscribe.md#the-token": "", "#bounds": "", "unsubscribe.md#the-tokens": "names a heading that is not there",
	} {
		if got := wrongLink("../docs/unsubscribe.md", link); got != want {
			t.Errorf("%s: %q, want %q", link, got, want)
		}
	}
}
