# Rows of separated values, as in jq; jaq leaves them out.
def row_($separator; text):
  if isarray | not then error("cannot be a row: \(type)") end
  | [.[] | if . == null then "" elif isstring then text elif . >= [] then error("cannot be in a row: \(type)") else tojson end]
  | join($separator);
def @csv: row_(","; "\"" + (. / "\"" | join("\"\"")) + "\"");
def @tsv: row_("\t"; (. / "\\" | join("\\\\")) | (. / "\t" | join("\\t")) | (. / "\n" | join("\\n")) | (. / "\r" | join("\\r")));
