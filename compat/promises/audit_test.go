package promises

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/transcript"
)

// log reads the whole transcript over the wire.
func (a asker) log() (leaves [][]byte) {
	a.t.Helper()
	for {
		page := a.want(200, "GET", fmt.Sprintf("sys/transcript/entries?start=%d&limit=1000", len(leaves)), nil)["data"].(map[string]any)
		entries := texts(page["entries"])
		for _, leaf := range entries {
			leaves = append(leaves, []byte(leaf))
		}
		if float64(len(leaves)) >= page["size"].(float64) || len(entries) == 0 {
			return leaves
		}
	}
}

// export is the transcript as a file to take away.
func (a asker) export() []byte {
	a.t.Helper()
	state := a.want(200, "GET", "sys/transcript", nil)["data"].(map[string]any)
	leaves := a.log()
	var file bytes.Buffer
	err := transcript.WriteExport(&file, transcript.ExportHeader{
		ClusterID: state["cluster_id"].(string), VerifierKey: state["verifier_key"].(string), Checkpoint: state["checkpoint"].(string),
	}, func(yield func([]byte, error) bool) {
		for _, leaf := range leaves {
			if !yield(leaf, nil) {
				return
			}
		}
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return file.Bytes()
}

// audited verifies the transcript offline, and demands that nothing is wrong with it.
func (a asker) audited() *transcript.Report {
	a.t.Helper()
	state := a.want(200, "GET", "sys/transcript", nil)["data"].(map[string]any)
	report, err := transcript.VerifyExport(bytes.NewReader(a.export()), transcript.VerifyOptions{VerifierKey: state["verifier_key"].(string)})
	if err != nil {
		a.t.Fatal(err)
	}
	alarms := slices.DeleteFunc(slices.Clone(report.Entries), func(e transcript.ReportEntry) bool { return e.Entry.Event != transcript.Alarm })
	if len(report.Problems) > 0 || len(alarms) > 0 || report.Unknown > 0 || report.Signed != report.Size || len(texts(state["alarms"])) > 0 {
		a.t.Errorf("the transcript: problems %s; %d alarms, %d unknown entries, %d of %d signed, alarms of the process %v",
			strings.Join(report.Problems, "; "), len(alarms), report.Unknown, report.Signed, report.Size, state["alarms"])
	}
	return report
}
