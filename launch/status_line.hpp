#pragma once

#include <functional>
#include <string>

/// The line at the end of a terminal that is drawn over and over, such as a progress bar, and what else goes
/// to stderr: the line makes room for it. Of the whole process, as stderr is. Safe to call from any thread.
namespace fastserve::launch::status_line {

/// Draws over what was drawn before; nothing for an empty text. The text moves the cursor back itself and
/// ends without a newline.
void draw(const std::string& text);
/// Removes what was drawn.
void clear();
/// Whoever drew before is gone, and its line still stands there: the next text has to make room.
void inherit();

/// Writes to stderr, whole lines.
void say(const std::string& lines);
/// From now on what is said goes to `write` and not to stderr: for a console, which has a prompt to keep at
/// the end of the terminal. Null: to stderr again; on return nobody is in the old `write` any more. `write`
/// must not call back into here.
void divert(std::function<void(const std::string& lines)> write);

}  // namespace fastserve::launch::status_line
