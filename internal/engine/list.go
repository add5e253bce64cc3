package engine

import (
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// folderEnd sorts after every part that a key is likely to have below a folder.
const folderEnd = "\U0010FFFF"

// ListNames returns the names directly below a key prefix, in byte order: what follows the prefix up to a slash, and the slash
// as well where more comes after it, so that a name may be there twice, as a leaf and as a folder. Only names greater
// than after are returned, and no more than limit unless that is 0. A folder costs one step, whatever is in it.
func ListNames(r store.Reader, prefix, after string, limit int) ([]string, error) {
	names := []string{}
	if folder, _, inFolder := strings.Cut(after, "/"); inFolder {
		after = folder + "/" + folderEnd
	}
	for start := prefix + after; ; {
		folder, err := listLeaves(r, prefix, start, limit, &names)
		if err != nil || folder == "" {
			return names, err
		}
		start = prefix + folder + folderEnd
	}
}

// listLeaves adds names up to and including the next folder, which it returns; "" if the list is complete.
func listLeaves(r store.Reader, prefix, start string, limit int, names *[]string) (folder string, err error) {
	for entry, err := range r.Scan(prefix, start) {
		if err != nil {
			return "", err
		}
		name, _, isFolder := strings.Cut(entry.Key[len(prefix):], "/")
		if isFolder {
			name += "/"
		}
		if name == "" || isFolder && strings.HasPrefix(start, prefix+name) { // the prefix itself, or the rest of a folder that is done
			continue
		}
		if limit > 0 && len(*names) == limit {
			return "", nil
		}
		*names = append(*names, name)
		if isFolder {
			return name, nil
		}
	}
	return "", nil
}

// Paging reads what part of a list the client wants, for ListNames. A limit that is absent or not above 0 is none.
func Paging(q url.Values) (after string, limit int, err error) {
	after = q.Get("after")
	if len(after) > store.MaxKey || !utf8.ValidString(after) || strings.ContainsRune(after, 0) {
		return "", 0, fault.New(fault.Invalid, `"after" must be a name from an earlier page of the list`)
	}
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil {
			return "", 0, fault.New(fault.Invalid, `"limit" must be a whole number`)
		}
	}
	return after, max(limit, 0), nil
}
