"use strict";
/* A click on a header sorts its table: numbers by value, everything else as text, rows without a value last, a third click restores the order. */
document.querySelectorAll("table").forEach(function (table) {
  var body = table.tBodies[0];
  var original = Array.prototype.slice.call(body.rows);
  var heads = Array.prototype.slice.call(table.tHead.rows[table.tHead.rows.length - 1].cells);
  heads.forEach(function (head, column) {
    head.firstChild.addEventListener("click", function () {
      var next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
      heads.forEach(function (other) { other.setAttribute("aria-sort", "none"); });
      head.setAttribute("aria-sort", next);
      var rows = original.slice();
      if (next !== "none") {
        var sign = next === "ascending" ? 1 : -1;
        var numeric = head.classList.contains("n");
        var key = function (row) {
          var cell = row.cells[column];
          if (!numeric) return cell.textContent;
          return cell.hasAttribute("data-v") ? Number(cell.getAttribute("data-v")) : NaN;
        };
        rows.sort(function (a, b) {
          var x = key(a), y = key(b);
          if (!numeric) return sign * x.localeCompare(y, undefined, { numeric: true });
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return sign * (x - y);
        });
      }
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
});
