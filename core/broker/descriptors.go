package broker

import "github.com/forebayhub/forebay/internal/vfs"

// descriptors divides what the process may have open: half of it for connections, an eighth for the logs' segments,
// each of which has up to three files open, and the rest for whatever else there is. So neither can
// take the other's. Without a limit that is known the defaults of both rooms hold.
func descriptors() (segments, connections int) {
	limit := int(min(vfs.OpenLimit(), 1<<20))
	if limit == 0 {
		return 0, 1 << 20
	}
	return min(max(limit/8, 16), 16<<10), max(limit/2, 16)
}
