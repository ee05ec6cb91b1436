// Texts that several parts of the page share.

export default {
  en: { close: "Close", cancel: "Cancel", copy: "Copy", copied: "Copied", retry: "Ask again" },
  zh: { close: "关闭", cancel: "取消", copy: "复制", copied: "已复制", retry: "再次提问" },
};
