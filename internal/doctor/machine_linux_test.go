package doctor

import (
	"slices"
	"testing"
)

func TestMountOf(t *testing.T) {
	t.Parallel()
	const table = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 0:26 / /var/lib rw,nosuid shared:2 master:1 - xfs /dev/sdb1 rw,nobarrier
31 30 0:27 / /var/lib/mail\040out rw - tmpfs tmpfs rw
32 30 0:28 / /var/lib/mail\040out rw - overlay overlay rw,volatile
broken line
`
	for _, c := range []struct{ path, kind, option string }{
		{"/var/lib/mailout", "xfs", "nobarrier"},
		{"/var/library", "ext4", "errors=remount-ro"},
		{"/var/lib/mail out/spool", "overlay", "volatile"},
		{"/", "ext4", "relatime"},
	} {
		kind, options := mountOf(table, c.path)
		if kind != c.kind || !slices.Contains(options, c.option) {
			t.Errorf("%s: %s %v", c.path, kind, options)
		}
	}
	if kind, _ := mountOf("", "/var"); kind != "" {
		t.Error(kind)
	}
}
