package transcript

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"
)

//go:embed page.html
var page string

// WriteHTML writes the report as one page without references to anything else, for an auditor to file.
func WriteHTML(w io.Writer, r *Report) error {
	t, err := template.New("page").Funcs(template.FuncMap{"time": pageTime, "who": who}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}

func pageTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000Z") }

// who names the holder of an entry.
func who(e *Entry) string {
	switch {
	case e.Slot == 0:
		return ""
	case e.Label == "":
		return fmt.Sprintf("slot %d", e.Slot)
	}
	return fmt.Sprintf("slot %d, %s", e.Slot, e.Label)
}
