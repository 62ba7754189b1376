# /etc/profile sets PATH anew in login shells; a session over ssh has the image's own.
if [ -n "${TRTFORGE_PATH:-}" ]; then
    export PATH="$TRTFORGE_PATH"
fi
